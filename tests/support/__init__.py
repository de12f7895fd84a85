"""What tests share: synthetic videos, faulty stores, killed processes, made-up rows."""
