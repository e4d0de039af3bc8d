//! Messages between supervisor, launcher and init.
