"""What the tests share: servers to talk to and the means to talk to them."""
