"""What a verb of the command line does, callable from Python."""
