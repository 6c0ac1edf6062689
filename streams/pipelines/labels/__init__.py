"""The label loop of the fraud domain: labels in, outcomes beside their scores out."""
