"""What runs a network: the interface, LiteRT and TensorFlow behind it, the thread and the queue before them."""
