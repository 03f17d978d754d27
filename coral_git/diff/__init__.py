"""What differs between two versions of weight files, tensor by tensor."""
