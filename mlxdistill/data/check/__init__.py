"""What a file of rows holds, found in one pass: columns, duplicates, classes, lengths, languages, personal data."""
