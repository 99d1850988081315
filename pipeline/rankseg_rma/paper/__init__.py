"""The experiments of the paper: tests in its forms, and its tables made anew."""
