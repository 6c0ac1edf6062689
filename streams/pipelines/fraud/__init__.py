"""The fraud domain: transactions and labels in, fraud flags out."""
