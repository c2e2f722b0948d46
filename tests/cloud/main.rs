//! The contracts of the ports, on every adapter, and what the embedded adapters promise beyond them.

mod compute_contract;
mod contract;
mod controller_lease;
mod damaged_journal;
mod data_folder;
mod object_store_contract;
mod queue_contract;
mod queue_properties;
mod queue_restarts;
mod queue_survives_kill;
mod worker_socket;
mod worker_sockets;
