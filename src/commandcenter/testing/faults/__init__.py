"""Kills the service at every point where it changes something, to see that nothing is lost by it.

A *point* is the moment before a durable transition (a commit of the database, named by what it
writes) or an outside effect (a git command that writes, a file renamed, a process started). What
one point leaves behind is what the next one finds, so the moment after an effect is the moment
before the next.

The points are those of Python's audit hooks and of the database's own events: nothing in the
service knows of them, so none can be forgotten.
"""
