//! The simulator: a disk that forgets, a clock that jumps, and the proof of the store.
