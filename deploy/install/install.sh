#!/usr/bin/env bash
# Install, upgrade or remove the Fleet agent on a Raspberry Pi, a Jetson or any Debian-like machine.
#
# The agent gets a user of its own, an environment under PREFIX/venvs/ and a systemd unit. An upgrade builds the
# new environment beside the old one, tries it, and then switches the link PREFIX/current; the old one stays as
# PREFIX/previous. A second run with the same parts changes nothing. `scripts/bundle` makes the folder that holds
# this script with all that it needs.
set -euo pipefail
shopt -s nullglob
umask 022 # the agent's user must be able to read what root makes here, whatever root's own habit

ROOT=${FLEET_INSTALL_ROOT:-} # a folder for the whole machine: tests
PREFIX=$ROOT/opt/fleet-agent
STATE=$ROOT/var/lib/fleet-agent
CONFIG=$ROOT/etc/fleet-agent
UNITS=$ROOT/etc/systemd/system
COMMAND=$ROOT/usr/local/bin/fleet-agent
OWNER=fleet-agent

usage() {
  cat <<'TEXT'
usage: install.sh [options]

  --wheels DIR      take every package from DIR, and ask no package index
  --runtime NAME    litert or tflite; without: what this machine and its Python have a wheel for
  --python FILE     the Python to build on; without: python3
  --url URL         enrol at this controller ...
  --token TOKEN     ... with this token (or FLEET_AGENT_TOKEN, which no process list shows)
  --id NAME         id of this device; without: its host name
  --wait SECONDS    keep trying to enrol while the controller is away
  --no-start        install and enrol, start nothing
  --dry-run         say what would be done, do nothing
  --uninstall       remove the agent; its state, settings and user stay
  --purge           with --uninstall: remove those too
  --help            this text
TEXT
}

say() { echo "fleet-agent: $*"; }
fail() { echo "fleet-agent: error: $1" >&2; [ $# -lt 2 ] || echo "  hint: $2" >&2; exit 1; }

# Do a step, or say what it would be.
step() {
  if [ "$dry_run" = yes ]; then say "would run: $*"; else "$@"; fi
}

wheels='' runtime='' python=python3 url='' token=${FLEET_AGENT_TOKEN:-} device='' wait_s=0
start=yes dry_run=no action=install purge=no changed=no switched=no

parse_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --wheels | --runtime | --python | --url | --token | --id | --wait)
        [ $# -gt 1 ] || fail "$1 needs a value" "install.sh --help"
        case $1 in
          --wheels) wheels=$2 ;;
          --runtime) runtime=$2 ;;
          --python) python=$2 ;;
          --url) url=$2 ;;
          --token) token=$2 ;;
          --id) device=$2 ;;
          --wait) wait_s=$2 ;;
        esac
        shift 2
        ;;
      --no-start) start=no; shift ;;
      --dry-run) dry_run=yes; shift ;;
      --uninstall) action=uninstall; shift ;;
      --purge) purge=yes; shift ;;
      --help) usage; exit 0 ;;
      *) fail "unknown option $1" "install.sh --help" ;;
    esac
  done
  [ "$purge" = no ] || [ "$action" = uninstall ] || fail "--purge goes with --uninstall"
}

has_systemd() { [ -d "$ROOT/run/systemd/system" ]; }

# -- what to install

# In a bundle everything lies beside this script, in a checkout where it is kept.
find_parts() {
  local here
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  if [ -d "$here/locks" ]; then
    locks=$here/locks units=$here/systemd members=$here/wheels
  else
    locks=$here/../../locks units=$here/../systemd members=$here/../../dist
  fi
  [ -z "$wheels" ] || [ -d "$wheels" ] || fail "there is no folder $wheels"
  members=${wheels:-$members}
  shared_wheel=$(newest "$members"/fleet_shared-*.whl)
  agent_wheel=$(newest "$members"/fleet_agent-*.whl)
  if [ -z "$shared_wheel" ] || [ -z "$agent_wheel" ]; then
    fail "the wheels of fleet-shared and fleet-agent are not in $members" "scripts/bundle DIR makes a folder with all parts"
  fi
}

newest() { [ $# -eq 0 ] || printf '%s\n' "$@" | sort -V | tail -n 1; }

find_python() {
  command -v "$python" >/dev/null || fail "there is no $python" "apt-get install python3 python3-venv"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make environments" "apt-get install python3-venv"
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  minor=${version#3.}
  if [ "${version%%.*}" != 3 ] || [ "$minor" -lt 10 ]; then
    fail "Python $version does not fit" "it must be 3.10 or newer"
  fi
  # What Python was built for counts, not the kernel: a 32-bit system may run on a 64-bit one.
  machine=${FLEET_INSTALL_MACHINE:-$("$python" -c 'import platform, struct
print("armv7l" if platform.machine() == "aarch64" and struct.calcsize("P") == 4 else platform.machine())')}
}

# LiteRT where it has a wheel, else the last tflite-runtime, else a sentence.
choose_runtime() {
  case $machine in
    aarch64 | x86_64) litert_max=14 ;;
    armv7l | armv6l) litert_max=0 ;;
    *) fail "there is no runtime for $machine" "the agent runs on aarch64, armv7l and x86_64" ;;
  esac
  if [ -z "$runtime" ]; then
    if [ "$minor" -le "$litert_max" ]; then runtime=litert; else runtime=tflite; fi
  fi
  case $runtime in
    litert)
      [ "$minor" -le "$litert_max" ] ||
        fail "LiteRT has no wheel for Python $version on $machine" "leave --runtime out, or use a 64-bit system"
      lock=$locks/agent.txt
      ;;
    tflite)
      [ "$machine" != armv6l ] || fail "there is no runtime for $machine" "the first Raspberry Pi and the Zero are too old"
      [ "$minor" -le 11 ] ||
        fail "no runtime has a wheel for Python $version on $machine: tflite-runtime ends at Python 3.11" \
          "use the 64-bit system, which has LiteRT, or give a Python 3.11 with --python"
      lock=$locks/agent-tflite.txt
      ;;
    *) fail "unknown runtime $runtime" "litert or tflite" ;;
  esac
  [ -f "$lock" ] || fail "there is no $lock"
}

# -- steps; each does nothing where it is done already

make_user() {
  getent passwd "$OWNER" >/dev/null && return
  say "making the user $OWNER"
  step useradd --system --user-group --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin "$OWNER"
}

# The cameras, and the firmware of a Raspberry Pi, belong to the group video.
join_groups() {
  local group
  for group in video render; do
    getent group "$group" >/dev/null || continue
    id -nG "$OWNER" 2>/dev/null | tr ' ' '\n' | grep -qx "$group" && continue
    step usermod --append --groups "$group" "$OWNER"
  done
}

make_folders() {
  [ -d "$STATE" ] || step install -d -m 0700 -o "$OWNER" -g "$OWNER" "$STATE"
  [ -d "$CONFIG" ] || step install -d -m 0755 "$CONFIG"
  if [ ! -e "$CONFIG/environment" ]; then
    say "settings go to $CONFIG/environment"
    [ "$dry_run" = yes ] || cat >"$CONFIG/environment" <<'TEXT'
# Settings of the agent, one a line; docs/settings.md lists them. After a change: systemctl restart fleet-agent
#FLEET_AGENT_HTTP_PORT=8080
#FLEET_AGENT_SAMPLE_INTERVAL_S=10
TEXT
  fi
}

# The name of an environment tells what it is made of.
name_environment() {
  environment=$PREFIX/venvs/$({
    "$python" -c 'import sys; print(sys.version, sys.executable)'
    echo "$machine $runtime"
    cat "$lock" "$shared_wheel" "$agent_wheel"
  } | sha256sum | cut -c1-16)
}

build_environment() {
  if [ -e "$environment/complete" ]; then
    say "the environment $environment is there already"
    return
  fi
  say "building $environment: Python $version on $machine, runtime $runtime"
  [ "$dry_run" = no ] || return 0
  rm -rf "$environment" # what an interrupted run left
  mkdir -p "$PREFIX/venvs"
  "$python" -m venv "$environment"
  install_packages
  # Tried before anything points to it.
  (cd / && "$environment/bin/fleet-agent" version >/dev/null) || fail "the new environment does not start"
  try_runtime
  touch "$environment/complete"
}

install_packages() {
  local from=() hashes=(--require-hashes) requirements=$lock
  [ -z "$wheels" ] || from=(--no-index --find-links "$wheels")
  if [ "$machine" = armv7l ]; then
    # PyPI has few wheels for 32-bit Arm; those of the system's own index are not in the lock, so their
    # versions are pinned and their hashes are not.
    say "32-bit Arm: packages in the lock's versions, their hashes are not checked"
    requirements=$environment/requirements.txt
    sed -E '/^ *--hash/d; s/ *\\$//' "$lock" >"$requirements"
    hashes=()
  fi
  # No compiler on a device: what has no wheel is an error and not an hour of work.
  pip_install --only-binary :all: "${from[@]}" "${hashes[@]}" -r "$requirements" ||
    fail "not all packages of $(basename "$lock") could be installed" "is the package index reachable? --wheels DIR needs none"
  pip_install --no-index --no-deps "$shared_wheel" "$agent_wheel" || fail "the agent's own wheels could not be installed"
}

pip_install() {
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@"
}

try_runtime() {
  local module=ai_edge_litert.interpreter
  [ "$runtime" = litert ] || module=tflite_runtime.interpreter
  (cd / && "$environment/bin/python" -c "import $module") ||
    fail "the runtime $runtime does not start on this machine" "the environment in use was not touched"
}

# One rename: whoever starts the agent finds the old one or the new one.
switch_environment() {
  local now
  now=$(readlink "$PREFIX/current" || true)
  [ "$now" != "$environment" ] || return 0
  say "switching $PREFIX/current to it"
  changed=yes
  [ "$dry_run" = no ] || return 0
  [ -z "$now" ] || point_to "$now" "$PREFIX/previous"
  point_to "$environment" "$PREFIX/current"
  switched=yes
}

point_to() { # target, link
  ln -sfn "$1" "$2.new"
  mv -T "$2.new" "$2"
}

remove_older() {
  local folder
  for folder in "$PREFIX"/venvs/*; do
    case $folder in
      "$(readlink "$PREFIX/current")" | "$(readlink "$PREFIX/previous" || true)") ;;
      *) say "removing $folder"; rm -rf "$folder" ;;
    esac
  done
}

install_units() {
  local unit name changed_units=no
  for unit in "$units"/fleet-agent*.service; do
    name=$(basename "$unit")
    cmp -s "$unit" "$UNITS/$name" && continue
    say "installing $UNITS/$name"
    step install -D -m 0644 "$unit" "$UNITS/$name"
    changed=yes changed_units=yes
  done
  if [ "$(readlink "$COMMAND" || true)" != "$PREFIX/current/bin/fleet-agent" ]; then
    step mkdir -p "$(dirname "$COMMAND")"
    step ln -sfn "$PREFIX/current/bin/fleet-agent" "$COMMAND"
  fi
  if [ $changed_units = yes ] && has_systemd; then step systemctl daemon-reload; fi
}

is_enrolled() { [ -e "$STATE/identity/device.json" ]; }

enrol() {
  if is_enrolled; then
    say "this device is enrolled already"
    return
  fi
  if [ -z "$url" ] || [ -z "$token" ]; then
    say "not enrolled yet: on the controller run 'fleet device token', then here" \
      "runuser -u $OWNER -- $COMMAND enrol URL --token TOKEN --state $STATE"
    return
  fi
  say "enrolling at $url"
  [ "$dry_run" = no ] || return 0
  local words=(enrol "$url" --state "$STATE" --wait "$wait_s")
  [ -z "$device" ] || words+=(--id "$device")
  # The token goes by the environment: arguments are there for everybody to read.
  (cd / && FLEET_AGENT_TOKEN=$token runuser -u "$OWNER" -- "$PREFIX/current/bin/fleet-agent" "${words[@]}") ||
    fail "this device could not be enrolled" "run the script again with another token"
  changed=yes
}

start_service() {
  if [ "$start" = no ] || ! is_enrolled; then
    return
  fi
  if ! has_systemd; then
    say "systemd does not run here; start the agent with:" \
      "runuser -u $OWNER -- $COMMAND run --state $STATE"
    return
  fi
  systemctl is-enabled --quiet fleet-agent.service 2>/dev/null || step systemctl enable --quiet fleet-agent.service
  if [ "$changed" = yes ]; then
    say "starting the service"
    step systemctl restart fleet-agent.service || go_back
  elif ! systemctl is-active --quiet fleet-agent.service; then
    say "starting the service"
    step systemctl start fleet-agent.service || fail "the service does not start" "journalctl -u fleet-agent"
  fi
}

# A device that nobody can reach must not be left with an agent that does not come up.
go_back() {
  local before
  before=$(readlink "$PREFIX/previous" || true)
  if [ "$switched" = no ] || [ ! -e "$before/complete" ]; then
    fail "the service does not start" "journalctl -u fleet-agent"
  fi
  say "the new agent does not come up; going back to $before"
  point_to "$before" "$PREFIX/current"
  systemctl restart fleet-agent.service || fail "neither the new agent nor the one before starts" "journalctl -u fleet-agent"
  fail "the new agent does not come up, the one before runs again" "journalctl -u fleet-agent"
}

uninstall() {
  local unit
  for unit in fleet-agent-bridge.service fleet-agent.service; do
    if has_systemd; then step systemctl disable --quiet --now "$unit" 2>/dev/null || true; fi
    [ ! -e "$UNITS/$unit" ] || step rm -f "$UNITS/$unit"
  done
  if has_systemd; then step systemctl daemon-reload; fi
  step rm -f "$COMMAND"
  step rm -rf "$PREFIX"
  if [ "$purge" = yes ]; then
    step rm -rf "$STATE" "$CONFIG"
    if getent passwd "$OWNER" >/dev/null; then step userdel "$OWNER"; fi
  fi
  if [ "$dry_run" = yes ]; then
    say "nothing was done: this was a dry run"
    return
  fi
  if [ "$purge" = no ]; then
    say "removed; $STATE, $CONFIG and the user $OWNER stay (--purge removes them)"
    return
  fi
  say "removed, with its state, settings and user"
}

main() {
  parse_options "$@"
  [ "$dry_run" = yes ] || [ "$(id -u)" = 0 ] || fail "this needs root" "sudo $0 $*"
  if [ "$action" = uninstall ]; then
    uninstall
    return
  fi
  find_parts
  find_python
  choose_runtime
  name_environment
  make_user
  join_groups
  make_folders
  build_environment
  switch_environment
  install_units
  enrol
  start_service
  if [ "$dry_run" = yes ]; then
    say "nothing was done: this was a dry run"
    return
  fi
  remove_older
  if [ "$changed" = yes ]; then say "installed"; else say "nothing to change"; fi
  say "what it does: fleet-agent status; what is wrong: fleet-agent doctor"
}

main "$@"
