"""The engine's protocol, rule by rule: several processes on one disk that forgets and fails."""
