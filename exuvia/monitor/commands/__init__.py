"""Monitor commands: every public function whose first parameter is the monitor, its docstring the help."""
