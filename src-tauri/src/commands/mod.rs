//! What the windows can ask for. Each command translates and calls; nothing is decided here.

mod calibration;
mod chat;
mod conversations;
mod live;
mod models;
mod network;
mod settings;
mod system;

/// Registers the commands of each room.
macro_rules! commands {
    ($($room:ident: $($name:ident)*;)*) => {
        pub(crate) fn handler() -> impl Fn(tauri::ipc::Invoke<tauri::Wry>) -> bool + Send + Sync + 'static {
            tauri::generate_handler![$($($room::$name,)*)*]
        }
    };
}

commands! {
    chat: chat_send chat_stop chat_set_policy;
    conversations: conversations_list conversations_search conversation_get conversation_save conversation_rename
        conversation_delete;
    models: models_list model_load model_unload model_delete model_import model_pull pull_pause pull_resume
        pull_cancel engine_state memory_plan;
    settings: settings_get settings_set settings_reset autostart_set look_get;
    network: network_status lan_set keys_list key_create key_revoke;
    calibration: calibration_get calibrate calibrate_stop;
    live: live_subscribe live_unsubscribe;
    system: folder_choose link_open logs_open window_open window_close doctor;
}
