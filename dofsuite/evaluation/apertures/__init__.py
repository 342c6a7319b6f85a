"""`evaluate pairs` and `evaluate ebb`: blur against aperture on pairs of photographs."""
