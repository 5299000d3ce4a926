"""How many requests and tokens an account may send, over all threads, processes and machines."""
