"""Networks that a laptop trains, with the weights that come with the package."""
