"""Streams of questions and answers, in place of a call for each question."""
