"""The rules, without any store: values in, values out."""
