"""What a visit is, for every stage: its files, images, terms and attitude."""
