"""The pure rules of rating: no I/O, no clock, no floats."""
