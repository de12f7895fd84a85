"""List and split videos."""
