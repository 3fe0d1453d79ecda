"""What goes in and out of the methods that trace: geth's and Parity's parameters, and their forms of what was found."""
