"""The model that the store is compared with, and the rules that both go through."""
