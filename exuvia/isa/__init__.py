"""What the processors are; imports only `dsl`."""
