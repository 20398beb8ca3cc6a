"""The operator's side: configuration, journal, live dispatch, screen, report."""
