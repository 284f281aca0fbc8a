"""Whether an exported file gives what its model gives, and the receipt that states it."""
