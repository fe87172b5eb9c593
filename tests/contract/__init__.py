"""Every store keeps the contract, and the contract notices stores that do not."""
