"""What a sweep writes and everything else reads: records, the directory that holds them, and exports."""
