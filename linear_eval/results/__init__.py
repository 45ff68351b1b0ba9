"""What an evaluation leaves: results.json, answers per image, intervals."""
