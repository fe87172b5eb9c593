"""States of flows of CrewAI."""
