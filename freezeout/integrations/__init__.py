"""FreezeOut in other people's trainers: Lightning, Hugging Face's Trainer and Accelerate, each behind an extra."""
