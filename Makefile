# The scripts that the rules source are Bash's.
SHELL := /bin/bash

.PHONY: run test setup chat lint format clean

## Sets everything up and shows the program at work (the app; in a terminal without a display an answer).
run:
	@src-tauri/setup/run.sh

## Sets everything up and runs every check.
test:
	@src-tauri/setup/test.sh

## Installs what is missing and prepares MLX, and nothing else.
setup:
	@src-tauri/setup/packages.sh
	@if [ "$$(uname -s)" = Linux ]; then . src-tauri/setup/env.sh && src-tauri/setup/mlx-linux/setup.sh; fi

## A conversation in the terminal.
chat: setup
	@. src-tauri/setup/env.sh && cargo run --quiet -p mobile-cli -- chat

lint:
	@. src-tauri/setup/env.sh && cargo fmt --all --check
	@. src-tauri/setup/env.sh && cargo clippy --workspace --all-targets -- -D warnings

format:
	@. src-tauri/setup/env.sh && cargo fmt --all
	@. src-tauri/setup/env.sh && cd ui && npm run --silent format

clean:
	@. src-tauri/setup/env.sh && cargo clean
	@rm -rf .cargo/config.toml ui/node_modules ui/dist
