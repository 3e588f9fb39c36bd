"""Where blobs live: a folder, or any S3."""
