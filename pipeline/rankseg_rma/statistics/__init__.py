"""A cohort in, intervals out: differences, agreement, forms of mean scores. Arrays only: no file, no MONAI."""
