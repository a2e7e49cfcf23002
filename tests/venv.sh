# Sourced by the scripts in the folders here: a virtual environment in target/ with what a folder's requirements.txt names.
# venv FOLDER NAME sets $python; what is there already is made anew when the requirements have changed.
venv() {
  local folder=$1 place=$PWD/target/$2-venv stamp
  stamp=$(sha256sum <"$folder/requirements.txt" 2>/dev/null || shasum -a 256 <"$folder/requirements.txt")
  python=$place/bin/python
  [ "$(cat "$place/stamp" 2>/dev/null)" = "$stamp" ] && return
  rm -rf "$place"
  python3 -m venv "$place"
  "$python" -m pip install --quiet --disable-pip-version-check -r "$folder/requirements.txt"
  echo "$stamp" >"$place/stamp"
}
