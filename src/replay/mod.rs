//! Replay of past events into a live target.
