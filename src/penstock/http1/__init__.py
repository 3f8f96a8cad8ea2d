"""HTTP/1.1 parts that the client side and the upstream side share."""
