//! Who may do what: the role table of DESIGN 3, and the rules around it.

mod admins;
mod stage;
mod table;
