"""Distribution matching distillation (DMD2) and its alternating optimization."""
