/* launch: starts a program and says its process id, which nobody outside Wine can know.
 *
 *     launch PROGRAM ARGS...
 *
 * Prints one line, `pid N`, before the program runs; everything after it is the program's own output. Ends with the
 * program's exit code (125 if it could not be started), and ends the program when it is killed itself.
 */
#include <stdio.h>
#include <windows.h>

#define FAILED_TO_LAUNCH 125

static int failed(const char *what) {
    fprintf(stderr, "launch: %s failed with error %lu\n", what, GetLastError());
    return FAILED_TO_LAUNCH;
}

/* What follows the first word of the command line, as it was given: it needs no quoting anew. */
static char *rest_of_command_line(void) {
    char *rest = GetCommandLineA();
    int quoted = 0;
    while (*rest != 0 && (quoted || (*rest != ' ' && *rest != '\t'))) {
        quoted ^= *rest == '"';
        rest++;
    }
    while (*rest == ' ' || *rest == '\t') {
        rest++;
    }
    return rest;
}

/* A job whose programs end when its last handle is closed, which the system does when this program ends. */
static HANDLE job_that_ends_with_us(void) {
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    HANDLE job = CreateJobObjectA(NULL, NULL);
    if (job != NULL && !SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits)) {
        return NULL;
    }
    return job;
}

int main(void) {
    STARTUPINFOA startup = {.cb = sizeof startup};
    PROCESS_INFORMATION program;
    DWORD code;
    HANDLE job = job_that_ends_with_us();
    if (job == NULL) {
        return failed("making a job");
    }
    if (!CreateProcessA(NULL, rest_of_command_line(), NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL, &startup, &program)) {
        return failed("CreateProcess");
    }
    if (!AssignProcessToJobObject(job, program.hProcess)) {
        TerminateProcess(program.hProcess, FAILED_TO_LAUNCH);
        return failed("AssignProcessToJobObject");
    }
    printf("pid %lu\n", program.dwProcessId);
    fflush(stdout);
    ResumeThread(program.hThread);
    WaitForSingleObject(program.hProcess, INFINITE);
    GetExitCodeProcess(program.hProcess, &code);
    return (int)code;
}
