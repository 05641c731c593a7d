"""The attack suite: what a hostile agent tries, and that it fails for every kind of workspace.

`inside.py` holds what is tried from within, `planted.py` what is left behind for whoever takes the
result, `victims.py` and `ground.py` what both aim at, `suite.py` the tests. Each attack is also
run without our protection, where it has to succeed: a probe that is broken proves nothing.
"""
