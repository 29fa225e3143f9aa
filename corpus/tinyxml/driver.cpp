/* TinyXML, kept busy; see ../driver.h. */
#include "../driver.h"

#include <signal.h>

#include <sstream>
#include <string>

#include "tinyxml.h"

static const char document[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>\n<!-- comment -->\n<!DOCTYPE list>\n"
    "<list a='1' b=\"two &amp; &#x20AC;\"><item id='3'>text &lt; more</item><item/><![CDATA[<raw> & ]]>\n"
    "  <deep><deep><deep x='-4.5'>\xc3\xbc\xe2\x82\xac</deep></deep></deep></list>\n";

static void note_string(const std::string &text) {
    note(text.data(), text.size());
}

class Visitor : public TiXmlVisitor {
    bool VisitEnter(const TiXmlElement &element, const TiXmlAttribute *attribute) override {
        note_text(element.Value());
        for (; attribute != nullptr; attribute = attribute->Next()) {
            note_text(attribute->Name());
            note_text(attribute->Value());
            note_number(attribute->IntValue());
        }
        return true;
    }
    bool Visit(const TiXmlText &text) override {
        note_text(text.Value());
        note_number(text.CDATA());
        return true;
    }
};

static void regression(void) {
    TiXmlDocument xml;
    xml.Parse(document);
    note_number(xml.Error());
    Visitor visitor;
    xml.Accept(&visitor);
    TiXmlPrinter printer;
    printer.SetIndent("  ");
    xml.Accept(&printer);
    note_string(printer.Str());
    TiXmlDocument copy(xml);
    TiXmlElement *root = copy.RootElement();
    root->SetAttribute("new", 42);
    root->SetDoubleAttribute("real", 2.5);
    root->LinkEndChild(new TiXmlText("linked > text"));
    root->InsertBeforeChild(root->FirstChild(), TiXmlComment("first"));
    root->RemoveChild(root->FirstChild("deep"));
    double real = 0;
    note_number(root->QueryDoubleAttribute("real", &real));
    note_number((long long)(real * 10));
    std::ostringstream stream;
    stream << copy;
    note_string(stream.str());
    note_text(TiXmlHandle(&xml).FirstChild("list").Child("item", 0).ToElement()->GetText());
    static const char *const wrong[] = {"",           "<a>",     "<a></b>",         "<a b=1/>",      "<a b='1' b='2'/>", "<!-- x",
                                        "<a>&#0;</a>", "<a x>", "<a><![CDATA[ x", "text",         "<a b='",           "<1/>"};
    for (const char *text : wrong) {
        TiXmlDocument bad;
        bad.Parse(text);
        note_number(bad.ErrorId());
        note_text(bad.ErrorDesc());
        note_number(bad.ErrorRow());
        note_number(bad.ErrorCol());
    }
}

static bool refused;

/* A declaration that ends within white space. */
static void declaration(void) {
    static unsigned char *text;
    if (text == nullptr) {
        text = guarded("<?xml ", 7);
    }
    TiXmlDocument xml;
    xml.Parse((const char *)text);
    refused = xml.Error();
}

/* An assertion that fails ends the call as a fault does, not the process. */
static void on_abort(int) {
    if (calling) {
        faulted = 1;
        calling = 0;
        RtlRestoreContext(&before_call, nullptr);
    }
}

static bool asserts(void (*call)(void)) {
    signal(SIGABRT, on_abort);
    return faults(call);
}

static char *page;
static HANDLE ended;

/* Takes the text away from a parser that does not come to its end. Many short waits: if the process stood still, it has time after
 * that, too. */
static DWORD WINAPI watch(void *) {
    for (int i = 0; i < 10; i++) {
        if (WaitForSingleObject(ended, 30) == WAIT_OBJECT_0) {
            return 0;
        }
    }
    DWORD old;
    VirtualProtect(page, 0x1000, PAGE_NOACCESS, &old);
    return 0;
}

/* An attribute's name that ends within a letter of three bytes, an error, and the end. */
static void first_of_three(void) {
    TiXmlDocument xml;
    xml.Parse(page, nullptr, TIXML_ENCODING_UTF8);
    refused = xml.Error();
}

static bool ends(void (*parse)(void), const char *text) {
    if (page == nullptr) {
        page = (char *)VirtualAlloc(nullptr, 0x1000, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
        ended = CreateEventA(nullptr, FALSE, FALSE, nullptr);
    }
    strcpy(page, text);
    HANDLE watcher = CreateThread(nullptr, 0, watch, nullptr, 0, nullptr);
    bool taken_away = faults(parse);
    SetEvent(ended);
    WaitForSingleObject(watcher, INFINITE);
    CloseHandle(watcher);
    ResetEvent(ended);
    DWORD old;
    VirtualProtect(page, 0x1000, PAGE_READWRITE, &old);
    return !taken_away;
}

static const char *probe(const char *name) {
    if (strcmp(name, "first-of-three") == 0) {
        return !ends(first_of_three, "<a b\xef'") ? "hangs" : refused ? "refused" : "accepted";
    }
    if (strcmp(name, "declaration") == 0) {
        return asserts(declaration) ? "aborts" : refused ? "refused" : "accepted";
    }
    return "unknown";
}
