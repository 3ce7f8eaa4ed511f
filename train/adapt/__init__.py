"""A new language onto a trained run: zero-shot, without labels, with k labelled clips an emotion, and from scratch."""
