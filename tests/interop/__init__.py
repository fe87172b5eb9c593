"""Shared directories with the real Rust crate."""
