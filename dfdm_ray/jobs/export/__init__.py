"""Write predictions for spreadsheets and other programs."""
