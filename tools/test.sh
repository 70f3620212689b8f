#!/usr/bin/env bash
# Every stage of `make test`. All stages run; the end says what each took, what was skipped and
# why, and fails if any stage did.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${VENV:-.venv}/bin/python
jobs=${PYTEST_JOBS:-2}
summary=()
failed=0

stage() {
    local name=$1 begin=$SECONDS status=0 word=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || status=$?
    case $status in
        0) ;;
        77) word=SKIPPED ;;
        *) word=FAILED failed=1 ;;
    esac
    summary+=("$(printf '%-28s %-8s %5d s' "$name" "$word" $((SECONDS - begin)))")
}

unit() {
    "$python" -m coverage run -m pytest tests/unit -n "$jobs" --junit-xml=build/junit-unit.xml
}

# A file at a time in each worker: the tests of a file share a bench. They wait more than they
# compute, and none asserts a duration.
integration() {
    "$python" -m coverage run -m pytest tests --ignore=tests/unit --ignore=tests/vcan \
        --ignore=tests/bench --ignore=tests/fuzz -n "$((jobs + 1))" --dist loadfile --junit-xml=build/junit-integration.xml
}

coverage_table() {
    "$python" -m coverage combine --quiet && "$python" -m coverage report
}

# The whole job and one test of each kind; `make test-vcan` runs every scenario over vcan.
vcan_sample() {
    local integration=tests/integration
    VCAN_TESTS=${VCAN_TESTS:-tests/vcan $integration/test_whole_job.py \
        $integration/test_scenario_car_driving.py $integration/test_scenario_consent_answers.py \
        $integration/test_scenario_controller_candump.py} bash tools/test-vcan.sh
}

mkdir -p build
rm -f build/junit-*.xml .coverage .coverage.*
stage "lint" bash tools/lint.sh
stage "debian packages" bash tools/packages.sh
stage "unit tests" unit
stage "integration tests" integration
stage "coverage" coverage_table
stage "scenarios over vcan" vcan_sample

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
"$python" tools/skipped.py build/junit-*.xml
if [ $failed -ne 0 ]; then
    echo "make test: FAILED"
    exit 1
fi
echo "make test: passed in $SECONDS s"
