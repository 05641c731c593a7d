"""The machine: processes, git, the sandbox, the clock. Values in, values out."""
