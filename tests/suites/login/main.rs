//! Real logins: sshd, login, su, sudo and screen lockers, with the stacks of the documentation, byte for byte.

mod applications;
mod fedora;
mod first_pass;
mod guide_stacks;
mod lockers;
mod one_prompt;
mod reminder;
mod tested_blocks;
