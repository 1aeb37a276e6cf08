"""What the tests of confined programs share: builders, views from outside, positive controls."""
