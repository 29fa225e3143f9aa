/* libxml2, kept busy; see ../driver.h. */
#include "../driver.h"

#include <libxml/HTMLparser.h>
#include <libxml/HTMLtree.h>
#include <libxml/c14n.h>
#include <libxml/catalog.h>
#include <libxml/debugXML.h>
#include <libxml/parser.h>
#include <libxml/pattern.h>
#include <libxml/relaxng.h>
#include <libxml/schematron.h>
#include <libxml/tree.h>
#include <libxml/xinclude.h>
#include <libxml/xmlreader.h>
#include <libxml/xmlschemas.h>
#include <libxml/xmlwriter.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>

static const char document[] =
    "<?xml version='1.0'?>\n<!DOCTYPE list [<!ELEMENT list (item*)><!ELEMENT item (#PCDATA)>\n"
    "<!ATTLIST item id ID #IMPLIED kind (a|b) 'a'><!ENTITY e 'entity'>]>\n"
    "<list><item id='i1'>one &e;</item><item id='i2' kind='b'>two &lt; 3</item><item>\xc3\xbc &#8364;</item></list>";

static const char schema[] =
    "<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema'><xs:element name='list'><xs:complexType><xs:sequence>"
    "<xs:element name='item' maxOccurs='unbounded'><xs:complexType><xs:simpleContent><xs:extension base='xs:string'>"
    "<xs:attribute name='id' type='xs:ID'/><xs:attribute name='kind' type='xs:string'/></xs:extension></xs:simpleContent>"
    "</xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element></xs:schema>";

static const char relax[] =
    "<element name='list' xmlns='http://relaxng.org/ns/structure/1.0'><oneOrMore><element name='item'>"
    "<optional><attribute name='id'/></optional><optional><attribute name='kind'/></optional><text/></element></oneOrMore>"
    "</element>";

static void quiet(void *context, const char *format, ...) {
    (void)context;
    (void)format;
}

static void note_document(xmlDocPtr doc) {
    xmlChar *text = NULL;
    int size = 0;
    xmlDocDumpFormatMemory(doc, &text, &size, 1);
    note(text, (size_t)size);
    xmlFree(text);
    xmlC14NDocDumpMemory(doc, NULL, XML_C14N_1_0, NULL, 1, &text);
    note_text((const char *)text);
    xmlFree(text);
}

static void note_xpath(xmlDocPtr doc, const char *expression) {
    xmlXPathContextPtr context = xmlXPathNewContext(doc);
    xmlXPathObjectPtr object = xmlXPathEvalExpression(BAD_CAST expression, context);
    xmlChar *text = xmlXPathCastToString(object);
    note_text((const char *)text);
    xmlFree(text);
    xmlXPathFreeObject(object);
    xmlXPathFreeContext(context);
}

static void validate(xmlDocPtr doc) {
    xmlValidCtxtPtr valid = xmlNewValidCtxt();
    note_number(xmlValidateDocument(valid, doc));
    xmlFreeValidCtxt(valid);
    xmlSchemaParserCtxtPtr parser = xmlSchemaNewMemParserCtxt(schema, (int)sizeof schema - 1);
    xmlSchemaPtr compiled = xmlSchemaParse(parser);
    xmlSchemaValidCtxtPtr context = xmlSchemaNewValidCtxt(compiled);
    note_number(xmlSchemaValidateDoc(context, doc));
    xmlSchemaFreeValidCtxt(context);
    xmlSchemaFree(compiled);
    xmlSchemaFreeParserCtxt(parser);
    xmlRelaxNGParserCtxtPtr relax_parser = xmlRelaxNGNewMemParserCtxt(relax, (int)sizeof relax - 1);
    xmlRelaxNGPtr relax_compiled = xmlRelaxNGParse(relax_parser);
    xmlRelaxNGValidCtxtPtr relax_context = xmlRelaxNGNewValidCtxt(relax_compiled);
    note_number(xmlRelaxNGValidateDoc(relax_context, doc));
    xmlRelaxNGFreeValidCtxt(relax_context);
    xmlRelaxNGFree(relax_compiled);
    xmlRelaxNGFreeParserCtxt(relax_parser);
}

static void read_all(void) {
    xmlTextReaderPtr reader = xmlReaderForMemory(document, (int)sizeof document - 1, NULL, NULL, XML_PARSE_NOENT);
    while (xmlTextReaderRead(reader) == 1) {
        note_number(xmlTextReaderNodeType(reader));
        note_text((const char *)xmlTextReaderConstName(reader));
    }
    xmlFreeTextReader(reader);
    static const char html[] = "<p>one<br>two<p class=x>three &amp; <b>bold";
    htmlDocPtr page = htmlReadMemory(html, (int)sizeof html - 1, NULL, NULL, HTML_PARSE_NOERROR);
    xmlChar *text = NULL;
    int size = 0;
    htmlDocDumpMemory(page, &text, &size);
    note(text, (size_t)size);
    xmlFree(text);
    xmlFreeDoc(page);
}

static void regression(void) {
    xmlSetGenericErrorFunc(NULL, quiet);
    xmlDocPtr doc = xmlReadMemory(document, (int)sizeof document - 1, NULL, NULL, XML_PARSE_NOENT | XML_PARSE_DTDATTR);
    note_document(doc);
    note_xpath(doc, "count(//item[@kind='b'])");
    note_xpath(doc, "concat(string(//item[1]), id('i2'), normalize-space(//item[3]))");
    note_xpath(doc, "//item[position() mod 2 = 1]/following-sibling::item");
    validate(doc);
    xmlDocPtr copy = xmlCopyDoc(doc, 1);
    note_document(copy);
    xmlPatternPtr pattern = xmlPatterncompile(BAD_CAST "list/item", NULL, 0, NULL);
    note_number(xmlPatternMatch(pattern, xmlFirstElementChild(xmlDocGetRootElement(doc))));
    xmlFreePattern(pattern);
    xmlFreeDoc(copy);
    xmlFreeDoc(doc);
    read_all();
    static const char *const wrong[] = {"", "<a>", "<a></b>", "<a b='1' b='2'/>", "<a>&x;</a>", "<a><![CDATA[</a>", "<a/>x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        doc = xmlReadMemory(wrong[i], (int)strlen(wrong[i]), NULL, NULL, XML_PARSE_NOERROR);
        note_number(doc != NULL);
        xmlFreeDoc(doc);
    }
}

/* An allocator that shows what is done with memory: each block of a probe has pages of its own with untouchable ones between
 * them, is gone when it is freed, and is not given again. What the library allocated before stays where it is. */
enum { PAGE = 0x1000, PAGES = 0x8000 };
static struct {
    char *memory;
    size_t used, sizes[PAGES];
    /* Blocks end where a page ends, or start where one starts. */
    int at_start;
    /* Which allocation fails, counted from 1; of all, or of those of one size. 0: none. */
    size_t fails, of_size, seen;
} heap;

static int is_on_heap(const void *block) {
    return (const char *)block >= heap.memory && (const char *)block < heap.memory + (size_t)PAGES * PAGE;
}

static size_t *size_of(const void *block) {
    return &heap.sizes[(size_t)((const char *)block - heap.memory) / PAGE];
}

static void *guarded_malloc(size_t size) {
    if ((heap.of_size == 0 || heap.of_size == size) && ++heap.seen == heap.fails) {
        return NULL;
    }
    size_t pages = size / PAGE + 1, rounded = (size + 7) & ~(size_t)7;
    if (heap.used + pages + 1 >= PAGES) {
        return NULL;
    }
    char *first = heap.memory + ++heap.used * PAGE;
    VirtualAlloc(first, pages * PAGE, MEM_COMMIT, PAGE_READWRITE);
    heap.used += pages;
    char *block = heap.at_start ? first : first + pages * PAGE - rounded;
    *size_of(block) = size;
    return block;
}

static void guarded_free(void *block) {
    if (!is_on_heap(block)) {
        free(block);
        return;
    }
    char *first = heap.memory + ((size_t)((char *)block - heap.memory) / PAGE) * PAGE;
    VirtualFree(first, (*size_of(block) / PAGE + 1) * PAGE, MEM_DECOMMIT);
}

static void *guarded_realloc(void *block, size_t size) {
    if (block != NULL && !is_on_heap(block)) {
        return realloc(block, size);
    }
    void *made = guarded_malloc(size);
    if (made != NULL && block != NULL) {
        size_t old = *size_of(block);
        memcpy(made, block, old < size ? old : size);
        guarded_free(block);
    }
    return made;
}

static char *guarded_strdup(const char *text) {
    char *made = guarded_malloc(strlen(text) + 1);
    return made != NULL ? strcpy(made, text) : NULL;
}

/* Whether `call` touches memory that it must not, with every block of the library guarded. */
static int faults_guarded(void (*call)(void)) {
    xmlFreeFunc old_free;
    xmlMallocFunc old_malloc;
    xmlReallocFunc old_realloc;
    xmlStrdupFunc old_strdup;
    if (heap.memory == NULL) {
        heap.memory = VirtualAlloc(NULL, (size_t)PAGES * PAGE, MEM_RESERVE, PAGE_READWRITE);
    }
    heap.used = heap.seen = 0;
    xmlResetLastError();
    xmlMemGet(&old_free, &old_malloc, &old_realloc, &old_strdup);
    xmlMemSetup(guarded_free, guarded_malloc, guarded_realloc, guarded_strdup);
    int result = faults(call);
    xmlResetLastError();
    xmlMemSetup(old_free, old_malloc, old_realloc, old_strdup);
    VirtualFree(heap.memory, (heap.used + 1) * PAGE, MEM_DECOMMIT);
    heap.at_start = 0;
    heap.fails = heap.of_size = 0;
    return result;
}

static const char *fault_or_not(int fault) {
    return fault ? "fault" : "no-fault";
}

static xmlDocPtr parsed(const char *text, int options) {
    return xmlReadMemory(text, (int)strlen(text), NULL, NULL, options | XML_PARSE_NOERROR);
}

static xmlSchemaPtr compiled(const char *text) {
    xmlSchemaParserCtxtPtr parser = xmlSchemaNewMemParserCtxt(text, (int)strlen(text));
    xmlSchemaPtr made = xmlSchemaParse(parser);
    xmlSchemaFreeParserCtxt(parser);
    return made;
}

/* A buffer of a size below zero. */
static const char *negative_length(void) {
    xmlChar memory[20];
    xmlChar *name = xmlBuildQName(BAD_CAST "name", BAD_CAST "prefix", memory, -1);
    if (name != NULL && name != memory) {
        xmlFree(name);
    }
    return name != NULL ? "made" : "refused";
}

/* A name that is longer than any text may be; "huge" lifts the limits for names, which had none then. */
static const char *huge_name(void) {
    enum { LENGTH = 10000001 };
    static char *text;
    if (text == NULL) {
        text = malloc(LENGTH + 3);
        memset(text, 'x', LENGTH + 1);
        text[0] = '<';
        memcpy(text + LENGTH + 1, "/>", 2);
    }
    xmlDocPtr doc = xmlReadMemory(text, LENGTH + 3, NULL, NULL, XML_PARSE_HUGE | XML_PARSE_NOERROR);
    xmlFreeDoc(doc);
    return doc != NULL ? "accepted" : "refused";
}

/* A short entity that contains itself is emptied where it is found out; its text may be somebody else's, too. */
static const char *entity_loop(void) {
    static const char text[] = "<!DOCTYPE a [<!ENTITY e '&e;'>]><a b='&e;'/>";
    xmlParserCtxtPtr context = xmlNewParserCtxt();
    const xmlChar *shared = xmlDictLookup(context->dict, BAD_CAST "&e;", -1);
    xmlFreeDoc(xmlCtxtReadMemory(context, text, (int)sizeof text - 1, NULL, NULL, XML_PARSE_NOERROR));
    const char *answer = shared[0] == '&' ? "kept" : "emptied";
    xmlFreeParserCtxt(context);
    return answer;
}

/* A type with elements that extends one with none. */
static void extend_simple_content(void) {
    xmlSchemaFree(compiled(
        "<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema'><xs:complexType name='base'><xs:simpleContent>"
        "<xs:extension base='xs:int'/></xs:simpleContent></xs:complexType><xs:complexType name='child'><xs:complexContent>"
        "<xs:extension base='base'><xs:sequence><xs:element name='e' type='xs:int'/></xs:sequence></xs:extension>"
        "</xs:complexContent></xs:complexType><xs:element name='root' type='child'/></xs:schema>"));
}

/* No bytes are the same as no bytes, whatever follows. */
static const char *empty_strings(void) {
    xmlDictPtr dict = xmlDictCreate();
    int same = xmlDictLookup(dict, BAD_CAST "a", 0) == xmlDictLookup(dict, BAD_CAST "b", 0);
    xmlDictFree(dict);
    return same ? "same" : "different";
}

/* An inclusion whose address cannot be written down, since memory is short just then. */
static void include(void) {
    xmlDocPtr doc = parsed("<a xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='no-such-file'/></a>", 0);
    xmlXIncludeProcess(doc);
    xmlFreeDoc(doc);
}

static const char *inclusion_short_of_memory(void) {
    heap.fails = 2;
    /* What xmlSaveUri starts with; the first is that of xmlBuildURI. */
    heap.of_size = 81;
    return fault_or_not(faults_guarded(include));
}

/* Keys of an element's own children `k`, and those of elements like it inside. */
static const char keys[] =
    "<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema'><xs:element name='r'><xs:complexType>"
    "<xs:choice minOccurs='0' maxOccurs='unbounded'><xs:element ref='r'/><xs:element name='k'><xs:complexType>"
    "<xs:attribute name='v' type='xs:double'/></xs:complexType></xs:element></xs:choice></xs:complexType>"
    "<xs:key name='key'><xs:selector xpath='k'/><xs:field xpath='@v'/></xs:key>"
    "<xs:keyref name='reference' refer='key'><xs:selector xpath='none'/><xs:field xpath='@v'/></xs:keyref>"
    "</xs:element></xs:schema>";

static const char *keyed;

static void validate_keys(void) {
    xmlSchemaPtr schema_of_keys = compiled(keys);
    xmlDocPtr doc = parsed(keyed, 0);
    xmlSchemaValidCtxtPtr context = xmlSchemaNewValidCtxt(schema_of_keys);
    xmlSchemaValidateDoc(context, doc);
    xmlSchemaFreeValidCtxt(context);
    xmlFreeDoc(doc);
    xmlSchemaFree(schema_of_keys);
}

/* One key that is double already, and then more of them than the list of these has room for. */
static const char *many_double_keys(void) {
    static char text[2000];
    char all[800] = "";
    for (int i = 1; i <= 25; i++) {
        snprintf(all + strlen(all), sizeof all - strlen(all), "<k v='%d'/>", i);
    }
    snprintf(text, sizeof text, "<r><r><k v='98'/><k v='99'/></r><r><k v='99'/></r><r>%s</r>%s</r>", all, all);
    keyed = text;
    return fault_or_not(faults_guarded(validate_keys));
}

/* Both zeros equal the one key inside, which is taken from the table of one entry twice. */
static const char *key_found_twice(void) {
    keyed = "<r><r><k v='0'/></r><k v='0'/><k v='-0'/></r>";
    heap.at_start = 1;
    return fault_or_not(faults_guarded(validate_keys));
}

static char message[20000];

static void keep_message(void *context, xmlErrorPtr error) {
    (void)context;
    snprintf(message, sizeof message, "%s", error->message);
}

/* A list of children is written to 5000 bytes; of a name that leaves no room for what may follow it, there is to be none. */
static const char *long_child_name(void) {
    enum { PREFIX = 2000, NAME = 2991 };
    static char prefix[PREFIX + 1], name[NAME + 1], text[3 * PREFIX + NAME];
    memset(prefix, 'p', PREFIX);
    memset(name, 'n', NAME);
    static const char format[] = "<!DOCTYPE a [<!ELEMENT a (b)><!ELEMENT b EMPTY>]><a><%s:%s xmlns:%s='u'/></a>";
    snprintf(text, sizeof text, format, prefix, name, prefix);
    message[0] = 0;
    xmlDocPtr doc = parsed(text, 0);
    xmlValidCtxtPtr context = xmlNewValidCtxt();
    xmlSetStructuredErrorFunc(NULL, keep_message);
    /* The content is judged first, so the first message is the one to look at. */
    xmlValidateOneElement(context, doc, xmlDocGetRootElement(doc));
    xmlSetStructuredErrorFunc(NULL, NULL);
    xmlFreeValidCtxt(context);
    xmlFreeDoc(doc);
    return strstr(message, "got") == NULL ? "no-message" : strstr(message, name) != NULL ? "written" : "left-out";
}

static const char *explicit_child_axis(void) {
    xmlDocPtr doc = parsed("<list><item/></list>", 0);
    xmlPatternPtr pattern = xmlPatterncompile(BAD_CAST "child::item", NULL, 0, NULL);
    int matches = xmlPatternMatch(pattern, xmlFirstElementChild(xmlDocGetRootElement(doc)));
    xmlFreePattern(pattern);
    xmlFreeDoc(doc);
    return numbered("matches", matches);
}

/* A reader on top of the old interface. */
static const char *reader_with_sax1(void) {
    static const char text[] = "<a/>";
    xmlTextReaderPtr reader = xmlReaderForMemory(text, (int)sizeof text - 1, NULL, NULL, XML_PARSE_SAX1);
    xmlTextReaderRead(reader);
    int is_empty = xmlTextReaderIsEmptyElement(reader);
    xmlFreeTextReader(reader);
    return is_empty ? "empty" : "not-empty";
}

/* A document type and an element, copied into a document that has neither, while memory is short. */
static size_t fails_in_copy;
static int stays;

static void copy_children(void) {
    xmlDocPtr from = parsed("<!DOCTYPE a><a/>", 0), to = xmlNewDoc(NULL);
    heap.seen = 0;
    heap.fails = fails_in_copy;
    xmlNodePtr copy = xmlDocCopyNodeList(to, from->children);
    stays |= copy == NULL && to->intSubset != NULL;
    xmlFreeDoc(to);
    xmlFreeDoc(from);
}

/* Of a copy that is given up, nothing is to stay in the document. */
static const char *copy_short_of_memory(void) {
    int fault = 0;
    stays = 0;
    for (size_t which = 1; which <= 6; which++) {
        fails_in_copy = which;
        fault |= faults_guarded(copy_children);
    }
    return fault ? "fault" : stays ? "stays" : "gone";
}

static int loads;

static xmlParserInputPtr count_loads(const char *url, const char *id, xmlParserCtxtPtr context) {
    (void)url, (void)id, (void)context;
    loads++;
    return NULL;
}

/* An inclusion of a file that is not there, with something inside: it is tried where it starts, and was again where it ends. */
static const char *inclusion_by_reader(void) {
    static const char text[] =
        "<a xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='none'>text</xi:include></a>";
    xmlExternalEntityLoader old = xmlGetExternalEntityLoader();
    loads = 0;
    xmlSetExternalEntityLoader(count_loads);
    int options = XML_PARSE_XINCLUDE | XML_PARSE_NOERROR;
    xmlTextReaderPtr reader = xmlReaderForMemory(text, (int)sizeof text - 1, NULL, NULL, options);
    while (xmlTextReaderRead(reader) == 1) {
    }
    xmlFreeTextReader(reader);
    xmlSetExternalEntityLoader(old);
    return numbered("loads", loads);
}

static char shell_says[1000];
static const char *shell_line;
static void *shell_memory;

static void keep_shell_says(void *context, const char *format, ...) {
    va_list arguments;
    (void)context;
    va_start(arguments, format);
    vsnprintf(shell_says, sizeof shell_says, format, arguments);
    va_end(arguments);
}

/* One line, then the end. */
static char *shell_input(char *prompt) {
    (void)prompt;
    if (shell_line == NULL) {
        return NULL;
    }
    char *line = malloc(strlen(shell_line) + 1);
    strcpy(line, shell_line);
    shell_memory = line;
    shell_line = NULL;
    return line;
}

static void run_shell(const char *line) {
    xmlDocPtr doc = parsed("<a/>", 0);
    shell_line = line;
    shell_says[0] = 0;
    xmlSetGenericErrorFunc(NULL, keep_shell_says);
    xmlShell(doc, (char *)"name", shell_input, stderr);
    xmlSetGenericErrorFunc(NULL, quiet);
    xmlFreeDoc(doc);
}

/* A command that is as long as the buffer for it: its end was written behind that, where the compiler leaves some bytes free. */
static const char *long_command(void) {
    static char command[101];
    memset(command, 'z', sizeof command - 1);
    run_shell(command);
    const char *said = strchr(shell_says, 'z');
    return numbered("letters", said != NULL ? (long long)strspn(said, "z") : 0);
}

/* A line of blanks, of a size for which the heap takes pages from the system and gives them back. */
static const char *blank_line(void) {
    enum { SIZE = 4000000 };
    static char *blanks;
    if (blanks == NULL) {
        blanks = malloc(SIZE + 1);
        memset(blanks, ' ', SIZE);
        blanks[SIZE] = 0;
    }
    run_shell(blanks);
    MEMORY_BASIC_INFORMATION state;
    VirtualQuery(shell_memory, &state, sizeof state);
    if (state.State != MEM_COMMIT) {
        return "freed";
    }
    free(shell_memory);
    return "leaked";
}

/* The name of what is no element: the document. */
static void report_document_name(void) {
    static const char text[] =
        "<s:schema xmlns:s='http://purl.oclc.org/dsdl/schematron'><s:pattern name='p'><s:rule context='a'>"
        "<s:report test='true()'><s:name path='/'/></s:report></s:rule></s:pattern></s:schema>";
    xmlDocPtr doc = parsed("<a/>", 0);
    xmlSchematronParserCtxtPtr parser = xmlSchematronNewMemParserCtxt(text, (int)sizeof text - 1);
    xmlSchematronPtr rules = xmlSchematronParse(parser);
    xmlSchematronValidCtxtPtr context = xmlSchematronNewValidCtxt(rules, XML_SCHEMATRON_OUT_ERROR);
    xmlSchematronSetValidStructuredErrors(context, keep_message, NULL);
    xmlSchematronValidateDoc(context, doc);
    xmlSchematronFreeValidCtxt(context);
    xmlSchematronFree(rules);
    xmlSchematronFreeParserCtxt(parser);
    xmlFreeDoc(doc);
}

/* An ID attribute that a user of the library has put a mark on, in the bits that are the user's. */
static const char *marked_id(void) {
    xmlDocPtr doc = parsed("<!DOCTYPE a [<!ATTLIST a id ID #IMPLIED>]><a id='i'/>", 0);
    xmlAttrPtr attribute = xmlDocGetRootElement(doc)->properties;
    attribute->atype |= 1 << 27;
    xmlRemoveProp(attribute);
    const char *answer = xmlGetID(doc, BAD_CAST "i") != NULL ? "dangles" : "gone";
    xmlFreeDoc(doc);
    return answer;
}

static int depth_inside;

static void note_depth(xmlXPathParserContextPtr context, int arguments) {
    (void)arguments;
    context->context->depth += 100;
    xmlXPathFreeObject(xmlXPathEval(BAD_CAST "1", context->context));
    depth_inside = context->context->depth;
    context->context->depth -= 100;
    valuePush(context, xmlXPathNewBoolean(1));
}

/* An expression within an expression: how deep that is must not be forgotten. */
static const char *nested_expression(void) {
    xmlXPathContextPtr context = xmlXPathNewContext(NULL);
    xmlXPathRegisterFunc(context, BAD_CAST "nested", note_depth);
    depth_inside = -1;
    xmlXPathFreeObject(xmlXPathEval(BAD_CAST "nested()", context));
    xmlXPathFreeContext(context);
    return depth_inside >= 100 ? "kept" : "forgotten";
}

static char catalog_file[MAX_PATH];

/* Catalogs are files; ours is in the folder for such things, and may name itself. */
static void write_catalog(const char *format) {
    char folder[MAX_PATH];
    GetTempPathA(sizeof folder, folder);
    /* As in an address. */
    for (char *letter = folder; *letter != 0; letter++) {
        *letter = *letter == '\\' ? '/' : *letter;
    }
    snprintf(catalog_file, sizeof catalog_file, "%sdriver-%lu.cat", folder, GetCurrentProcessId());
    const char *name = strrchr(catalog_file, '/') + 1;
    FILE *file = fopen(catalog_file, "wb");
    fprintf(file, format, name, name, name);
    fclose(file);
}

/* The library keeps what it read of files, until all that it knows of catalogs is cleaned up; which is done only if it began. */
static void begin_catalogs(const char *format) {
    write_catalog(format);
    xmlInitializeCatalog();
}

static void end_catalogs(void) {
    xmlCatalogCleanup();
    remove(catalog_file);
}

static void load_and_free_catalog(void) {
    xmlFreeCatalog(xmlLoadACatalog(catalog_file));
}

/* A catalog that has itself as a part; it ends where memory does, if it does not end before. */
static const char *catalog_in_itself(void) {
    enum { MANY = 200 };
    static const char text[] = "CATALOG \"%s\"\n";
    write_catalog(text);
    heap.fails = MANY;
    /* What a file is read to: its size, and some bytes more. */
    heap.of_size = sizeof text - 3 + strlen(strrchr(catalog_file, '/') + 1) + 10;
    int fault = faults_guarded(load_and_free_catalog);
    remove(catalog_file);
    return fault ? "fault" : heap.seen == 0 ? "not-read" : heap.seen >= MANY ? "endless" : "ends";
}

static int resolutions;

/* Ends what would not end otherwise. */
static void count_resolutions(void *context, const char *format, ...) {
    (void)context, (void)format;
    if (++resolutions > 1000) {
        *(volatile char *)NULL = 0;
    }
}

static void resolve(void) {
    xmlCatalogPtr catalog = xmlLoadACatalog(catalog_file);
    xmlFree(xmlACatalogResolveURI(catalog, BAD_CAST "x:y"));
    xmlFreeCatalog(catalog);
}

/* A catalog that hands a name on to itself. */
static const char *catalog_asks_itself(void) {
    begin_catalogs("<catalog xmlns='urn:oasis:names:tc:entity:xmlns:xml:catalog'>"
                   "<delegateURI uriStartString='x' catalog='%s'/></catalog>");
    resolutions = 0;
    xmlSetGenericErrorFunc(NULL, count_resolutions);
    xmlCatalogSetDebug(1);
    int fault = faults(resolve);
    xmlCatalogSetDebug(0);
    xmlSetGenericErrorFunc(NULL, quiet);
    end_catalogs();
    return fault ? "endless" : resolutions == 0 ? "not-read" : "ends";
}

static int count_lines_with(FILE *file, const char *what) {
    char line[1000];
    int count = 0;
    rewind(file);
    while (fgets(line, sizeof line, file) != NULL) {
        count += strstr(line, what) != NULL;
    }
    return count;
}

/* A catalog that names the same next one three times. */
static const char *repeated_catalog(void) {
    begin_catalogs("<catalog xmlns='urn:oasis:names:tc:entity:xmlns:xml:catalog'><nextCatalog catalog='none-%s'/>"
                   "<nextCatalog catalog='none-%s'/><nextCatalog catalog='none-%s'/><uri name='x:y' uri='x:z'/></catalog>");
    xmlCatalogPtr catalog = xmlLoadACatalog(catalog_file);
    /* Looking for something reads the file. */
    xmlFree(xmlACatalogResolveURI(catalog, BAD_CAST "x:y"));
    FILE *file = fopen(catalog_file, "w+b");
    xmlACatalogDump(catalog, file);
    int count = count_lines_with(file, "<nextCatalog");
    fclose(file);
    xmlFreeCatalog(catalog);
    end_catalogs();
    return numbered("entries", count);
}

static const char *probe(const char *name) {
    static const struct {
        const char *name;
        const char *(*show)(void);
        void (*call)(void);
    } probes[] = {
        {"negative-length", negative_length, NULL},
        {"huge-name", huge_name, NULL},
        {"entity-loop", entity_loop, NULL},
        {"extended-simple-content", NULL, extend_simple_content},
        {"empty-strings", empty_strings, NULL},
        {"inclusion-short-of-memory", inclusion_short_of_memory, NULL},
        {"many-double-keys", many_double_keys, NULL},
        {"key-found-twice", key_found_twice, NULL},
        {"long-child-name", long_child_name, NULL},
        {"explicit-child-axis", explicit_child_axis, NULL},
        {"reader-with-sax1", reader_with_sax1, NULL},
        {"copy-short-of-memory", copy_short_of_memory, NULL},
        {"inclusion-by-reader", inclusion_by_reader, NULL},
        {"long-command", long_command, NULL},
        {"blank-line", blank_line, NULL},
        {"document-name", NULL, report_document_name},
        {"marked-id", marked_id, NULL},
        {"nested-expression", nested_expression, NULL},
        {"catalog-in-itself", catalog_in_itself, NULL},
        {"catalog-asks-itself", catalog_asks_itself, NULL},
        {"repeated-catalog", repeated_catalog, NULL},
    };
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        if (strcmp(name, probes[i].name) == 0) {
            return probes[i].show != NULL ? probes[i].show() : fault_or_not(faults(probes[i].call));
        }
    }
    return "unknown";
}
