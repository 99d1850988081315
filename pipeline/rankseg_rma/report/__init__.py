"""What people read: tables, figures and pages made from tidy rows."""
