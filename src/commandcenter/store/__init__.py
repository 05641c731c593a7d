"""Facts and views: all our SQL. Events are appended once; rows are their fold."""
