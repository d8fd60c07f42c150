"""Read runs back: everything that a journal contains, as Python objects, arrays and dataframes."""
