"""What is wrong with a cluster, before a job finds out: facts of its nodes, and what to do about them."""
